"""Finds where things stand in a GGUF file, and changes them: for making files that are wrong in one way."""
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9


class Gguf:
    """keys: name -> (offset of the type, type, offset of the value); tensors: name -> offsets of its
    fields. Offsets are into `data`, a bytearray that the edits change."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = bytearray(f.read())
        self.at = 0
        magic, self.version, self.n_tensors, self.n_keys = self.take("<4sIQQ")
        assert magic == b"GGUF"
        self.keys, self.tensors = {}, {}
        for _ in range(self.n_keys):
            name = self.text()
            type_at = self.at
            kind, = self.take("<I")
            self.keys[name] = (type_at, kind, self.at)
            self.skip(kind)
        for _ in range(self.n_tensors):
            name_at = self.at
            name = self.text()
            n_dims_at = self.at
            n_dims, = self.take("<I")
            dims_at = self.at
            self.at += 8 * n_dims
            self.tensors[name] = {"name": name_at, "n_dims": n_dims_at, "dims": dims_at, "type": self.at,
                                  "offset": self.at + 4}
            self.at += 12
        self.head_bytes = self.at

    def take(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        n, = self.take("<Q")
        self.at += n
        return bytes(self.data[self.at - n:self.at]).decode("utf-8", "replace")

    def skip(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            element, n = self.take("<IQ")
            if element == STRING:
                for _ in range(n):
                    self.text()
            else:
                self.at += SIZES[element] * n
        else:
            self.at += SIZES[kind]

    # -------------------------------------------------------------- changes

    def put(self, offset, form, *values):
        struct.pack_into(form, self.data, offset, *values)

    def set_key(self, suffix, value):
        """Overwrites a number: the first key that ends so."""
        name = next(k for k in self.keys if k.endswith(suffix))
        _, kind, at = self.keys[name]
        self.put(at, FORMATS[kind], value)

    def set_element(self, name, index, value):
        """Overwrites a number in an array."""
        _, kind, at = self.keys[name]
        element, = struct.unpack_from("<I", self.data, at)
        assert kind == ARRAY and element in SIZES
        self.put(at + 12 + index * SIZES[element], FORMATS[element], value)

    def rename_key(self, suffix):
        """Spoils a key's name, which is like leaving it out."""
        name = next(k for k in self.keys if k.endswith(suffix))
        self.data[self.keys[name][0] - 1] = ord("~")

    def field(self, tensor, field, form="<Q", index=0):
        return struct.unpack_from(form, self.data, self.tensors[tensor][field] + index * struct.calcsize(form))[0]

    def set_field(self, tensor, field, value, form="<Q", index=0):
        self.put(self.tensors[tensor][field] + index * struct.calcsize(form), form, value)

    def rename_tensor(self, tensor):
        self.data[self.tensors[tensor]["name"] + 8] = ord("~")

    def save(self, path):
        with open(path, "wb") as f:
            f.write(self.data)
        return path
