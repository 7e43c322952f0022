//! Layers of neural networks on the CPU, and how their weights are loaded.
