"""What an encoder sees: random views of a whole batch of images, made on the batch's own device.

Every function takes uint8 or float-in-[0, 1] images (n, c, h, w) with c = 1 or 3 and gives float32 in [0, 1]; every
image gets its own random parameters, all of them drawn from one explicit `torch.Generator`, so the same generator state
gives the same views.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augment": ["Augment", "View"],
        "blur": ["blur_by", "gaussian_blur"],
        "clips": ["clip_augment", "play", "speed_views"],
        "colour": ["adjust_colour", "colour_jitter", "grey", "luma", "solarise"],
        "crop": ["center_crop", "crop_resize", "pad_crop", "random_boxes", "random_resized_crop"],
        "fourier": ["BatchStyleStandardize", "fourier_style"],
        "flip": ["random_flip"],
        "mask": ["block_masks", "mask_blocks"],
        "mixing": ["Mixed", "mixup"],
        "multi_crop": ["MultiCrop", "Views"],
        "patches": ["GridPatches"],
        "pixels": ["to_float"],
        "rand_augment": ["RandAugment"],
        "recipes": ["byol", "centred", "recipe", "simclr", "standard", "swav"],
        "rotation": ["rotate", "rotate4", "rotate_by"],
    },
)
