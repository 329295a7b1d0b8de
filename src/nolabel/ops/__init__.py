"""Numerics on tensors and arrays: pure functions without state, the ground floor of the library."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bits": ["pack_bits", "unpack_bits"],
        "gumbel_softmax": ["gumbel_noise", "gumbel_softmax"],
        "info_nce": ["cosine_pair_losses", "info_nce_losses", "pairwise_logsumexp"],
        "mixtures": ["upper_component"],
        "neighbours": ["nearest"],
        "pairs": ["pair_rows"],
        "quaternions": [
            "canonical_quaternion",
            "quaternion_from_euler",
            "quaternion_inverse",
            "quaternion_product",
            "relative_pose",
            "relative_rotation",
            "rotation_matrix",
        ],
        "rank": ["effective_rank", "singular_values"],
        "sinkhorn": ["sinkhorn"],
        "straight_through": ["binarise"],
        "transport": ["barycentric_map", "transport"],
    },
)
