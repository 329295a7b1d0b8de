"""Recommend items to users who took others, and learn from tables of categories: one published system a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "categorical_encoder": ["CategoricalEncoder"],
        "popularity": ["Popularity"],
        "two_tower": ["TwoTowerRecommender"],
    },
)
