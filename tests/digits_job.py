"""A job on the digits that trains in seconds; it lacks a name and a registry."""

JOB = {
    "data": {
        "train": "builtin:digits",
        "validation_fraction": 0.2,
        "image_size": 8,
        "crop": "none",
        "flip_probability": 0.0,
    },
    "backbone": {
        "name": "resnet18",
        "small_images": True,
        "kwargs": {"layers": [3, 3, 1, 1], "channels": [8, 8, 8, 8]},
    },
    "training": {"epochs": 6, "batch_size": 64, "workers": 1},
}
