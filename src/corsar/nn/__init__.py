"""Layers that know nothing of corsar's data: tensors in, tensors out."""
