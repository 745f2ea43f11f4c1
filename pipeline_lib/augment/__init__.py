"""Augmentation of uint8 image batches: pure functions of the images and a CPU generator's state.

Every transform is split in two. `sample(generator, batch)` draws one set of parameters per image,
on the CPU, so that runs on any device see the same views. `apply(images_BCHW, parameters)` is pure
and treats every image by itself, in integers or in single IEEE operations, so that its bytes do
not depend on the device, the number of threads, or the other images of the batch.
"""
