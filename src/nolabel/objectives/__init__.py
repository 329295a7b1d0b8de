"""Losses for anybody's training loop: tensors in, a scalar out, no state and no distributed code."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adversarial": ["adversarial_noise", "symmetric_divergence", "virtual_adversarial"],
        "alignment_uniformity": ["alignment", "uniformity"],
        "assignments": ["assignment_agreement", "sharpened"],
        "clustering": ["swapped_prediction"],
        "contrastive": ["info_nce", "nt_xent", "simple_contrastive"],
        "corrected_labels": ["blended_cross_entropy", "unbalance"],
        "domains": ["coral", "domain_adversarial", "multi_kernel_mmd", "reverse_gradient"],
        "entropy": ["mean_entropy"],
        "forgetting": ["bounded_error", "extractor_unlearning", "representation_alignment", "turned"],
        "image_text": ["image_text_contrast"],
        "information": ["information_bound", "scaled_cosine_error"],
        "label_aware": ["label_contrast"],
        "nested": ["Nested", "halved"],
        "pixels": ["location_centres", "pixel_consistency", "pixel_contrast", "pixel_positives", "propagate"],
        "relative_speed": ["relative_speed_loss"],
        "sampled_softmax": ["draw_negatives", "inclusion_probabilities", "sampled_softmax"],
        "separation": ["euclidean_alignment", "euclidean_uniformity", "kernel_joint_entropy", "supervised_alignment"],
        "variance": ["covariance_loss", "invariance_loss", "variance_loss", "vicreg"],
        "words": ["bag_of_words", "nearest_distance", "perplexity", "soft_codes", "word_prediction"],
    },
)
