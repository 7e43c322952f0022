"""An index file of format version 1, from the description in crates/chiasm-index/src/file.rs: testdata/index/exact-v1.idx.

blake3 1.0 or later. Written by other code than the program's, so that the description is tested too.
"""

import pathlib
import struct

from blake3 import blake3

ids = [2, 3, 5, 7, 11, 13, 17]
numbers = [float((i * 7 + 3) % 11 - 5) for i in range(21)]
vectors = struct.pack("<21f", *numbers)
vectors += bytes(-(192 + len(vectors)) % 64)
payload = vectors + struct.pack("<7Q", *ids)
header = b"CHIASMIX" + struct.pack("<4I", 1, 0x0A0B0C0D, 1, 2)
header += struct.pack("<6Q", len(ids), 3, 42, 192, 192 + len(vectors), 192 + len(payload))
header = header.ljust(96, b"\0") + blake3(payload).digest()
header += blake3(header).digest()
path = pathlib.Path(__file__).parent.parent / "testdata/index/exact-v1.idx"
path.parent.mkdir(exist_ok=True)
path.write_bytes(header.ljust(192, b"\0") + payload)
