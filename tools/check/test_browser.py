"""PNGs that browser.py reads, made here with each kind of filter."""

import struct
import unittest
import zlib

import browser


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(lines, width, colour=2):
    head = struct.pack(">IIBBBBB", width, len(lines), 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")


class Pixels(unittest.TestCase):
    def test_every_filter(self):
        want = [[(10, 20, 30), (13, 24, 35)]] * 5
        lines = [bytes([0, 10, 20, 30, 13, 24, 35]),           # as they are
                 bytes([1, 10, 20, 30, 3, 4, 5]),              # less the pixel before
                 bytes([2, 0, 0, 0, 0, 0, 0]),                 # less the one above
                 bytes([3, 5, 10, 15, 2, 2, 3]),               # less the mean of both
                 bytes([4, 0, 0, 0, 0, 0, 0])]                 # less the nearest of the two and the corner
        self.assertEqual(browser.pixels(png(lines, 2)), want)

    def test_alpha_is_left_out(self):
        self.assertEqual(browser.pixels(png([bytes([0, 1, 2, 3, 255])], 1, colour=6)), [[(1, 2, 3)]])

    def test_other_kinds_are_refused(self):
        with self.assertRaises(ValueError):
            browser.pixels(png([bytes([0, 1])], 1, colour=0))


if __name__ == "__main__":
    unittest.main()
