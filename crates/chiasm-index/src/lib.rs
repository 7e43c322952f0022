//! Nearest-neighbour search: kernels, the exact index, its file format.
