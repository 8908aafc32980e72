"""What an example is made of, and how each part of it moves with the image's pixels.

A field is a frozen dataclass of numpy arrays that can be flipped, resized and cropped, and stacked with
others into a batch's arrays, padded (torchvision's tv_tensors are the model). Examples are structs of fields:
a transform goes over all of them and knows none. A new kind of annotation is one new field.
"""
