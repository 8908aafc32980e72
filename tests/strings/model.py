"""A language model of strings: an LSTM that is given each character or samples it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from tests.strings.data import StringPredictions
from vision_jax.types import Mean


class Step(nn.Module):
    """One token: given it is taken, else the most probable one after adding noise."""

    num_tokens: int
    features: int

    @nn.compact
    def __call__(self, carry, inputs):
        state, previous = carry
        given, is_given, noise = inputs
        embedded = nn.Embed(self.num_tokens, self.features)(previous)
        state, out = nn.OptimizedLSTMCell(self.features)(state, embedded)
        logits = nn.Dense(self.num_tokens)(out).astype(jnp.float32)
        token = jnp.where(is_given, given, (logits + noise).argmax(-1)).astype(jnp.int32)
        return (state, token), (logits, token)


class StringLSTM(nn.Module):
    """Tokens are 0..V-1, V the start and the end.

    Attributes:
        num_tokens: V.
        features: of the LSTM.
        temperature: of the tokens that are sampled; 0 takes the most probable ones.
    """

    num_tokens: int
    features: int = 32
    temperature: float = 0.0

    def setup(self):
        scanned = nn.scan(
            Step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        self.steps = scanned(self.num_tokens + 1, self.features)

    def run(self, given, is_given, noise):
        count = len(given)
        state = nn.OptimizedLSTMCell(self.features, parent=None).initialize_carry(
            jax.random.key(0), (count, self.features)
        )
        start = jnp.full(count, self.num_tokens, jnp.int32)
        return self.steps((state, start), (given, is_given, noise))[1]

    def targets(self, batch):
        """Tokens with their end [B, T + 1], and which of these count."""
        more = ((0, 0), (0, 1))
        valid = jnp.pad(batch.valid, more)
        ends = jnp.arange(valid.shape[1]) == batch.valid.sum(1, keepdims=True)
        targets = jnp.where(ends, self.num_tokens, jnp.pad(batch.tokens, more))
        return targets, (valid | ends) & batch.example_valid[:, None]

    def __call__(self, batch, train=False):
        targets, _ = self.targets(batch)
        nothing = jnp.zeros((*targets.shape, self.num_tokens + 1))
        logits, _ = self.run(jnp.maximum(targets, 0), jnp.ones(targets.shape, bool), nothing)
        return {"logits": logits}

    def loss(self, batch, train=True):
        targets, counted = self.targets(batch)
        logits = self(batch, train)["logits"]
        nll = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
        return {"nll": Mean(jnp.where(counted, nll, 0).sum(1), jnp.float32(counted.sum(1)))}

    def predict(self, batch):
        length = batch.tokens.shape[1]
        key = self.make_rng("sample")

        def gumbel(id):
            at = jax.vmap(lambda t: jax.random.fold_in(jax.random.fold_in(key, id), t))(jnp.arange(length))
            return jax.vmap(lambda k: jax.random.gumbel(k, (self.num_tokens + 1,)))(at)

        noise = self.temperature * jax.vmap(gumbel)(batch.id)
        is_given = jnp.arange(length) < batch.given[:, None]
        _, tokens = self.run(jnp.maximum(batch.tokens, 0), is_given, noise)
        valid = jnp.cumsum(tokens == self.num_tokens, axis=1) == 0
        return StringPredictions(jnp.where(valid, tokens, -1), valid)
