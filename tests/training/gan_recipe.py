"""The GAN on eight Gaussians, from the command line.

vision-jax train tests/training/gan_recipe.py --k 3
vision-jax sample RUN --count 64
"""

from tests.training import tiny_gan
from vision_jax.training.experiment import Experiment


def experiment(k: int = 1, rounds: int = 6, seed: int = 0) -> Experiment:
    """Trains one GAN.

    Args:
        k: steps of the discriminator to one of the generator.
        rounds: of both.
        seed: of all random numbers.
    """
    return tiny_gan.experiment(tiny_gan.alternate(k, rounds), seed=seed)
