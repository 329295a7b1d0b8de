"""Floor 2: one contract and one loop for everything that learns."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clock": ["Clock"],
        "ema": ["ema_update", "momentum_schedule", "target_copy"],
        "estimator": ["Estimator", "identity", "load"],
        "ranks": ["gather"],
        "evaluating": ["mteb_encoder"],
        "exporting": ["export"],
        "guided": ["GuidedBatchSampler"],
        "image": ["ImageLearner"],
        "learner": ["Learner"],
        "loop": ["CollapseWarning"],
        "optimisers": ["LARS"],
        "place": ["first_rank"],
        "pairs": ["PairLearner"],
        "queue": ["FeatureQueue"],
        "row_adam": ["RowAdam"],
        "schedule": ["cosine_with_warmup"],
        "settings": ["Training"],
        "text": ["TextLearner"],
        "video": ["VideoLearner"],
    },
)
