"""Pascal VOC's palette, which many tools give their label maps (VOC2012 development kit, `VOClabelcolormap`).

A viewer shows each number's color. A number's lowest three bits are the highest ones of red, green and blue,
the next three the bits below them, and so on: black, dark red (128, 0, 0), dark green (0, 128, 0), ...
"""

import numpy as np

PALETTE = np.array(
    [
        [sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
        for number in range(256)
    ],
    np.uint8,
)
