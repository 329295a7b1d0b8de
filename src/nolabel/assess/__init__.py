"""Judge an embedding: without labels (rank, geometry, health, stability) and, for audits, with them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptation": ["batch_nuclear_norm", "negative_entropy", "soft_neighbourhood_density", "source_accuracy"],
        "clusters": ["ClusterScores", "ari", "cluster_scores", "cluster_stability", "clustering_accuracy", "nmi"],
        "codes": ["CodeReport", "code_report"],
        "contrastive": ["ContrastiveDiagnostics", "contrastive_diagnostics", "neighbour_tolerance", "tolerance"],
        "criteria": ["CRITERIA", "score"],
        "dense": ["DenseScores", "dense_probe"],
        "domains": ["domain_purity"],
        "equivariance": [
            "EquivarianceReport",
            "equivariance_report",
            "global_r2",
            "pose_error",
            "ranks_of_targets",
            "transformation_r2",
        ],
        "few_shot": ["Episode", "FewShotScore", "episodes", "few_shot_score"],
        "geometry": ["alignment", "spread", "uniformity"],
        "health": ["HealthReport", "health"],
        "lidar": ["lidar"],
        "membership": ["MembershipReport", "loss_auc", "membership_inference"],
        "moments": ["Moments"],
        "neighbours": ["SelfConsistency", "knn_accuracy", "neighbour_overlap", "self_consistency"],
        "probe": ["linear_probe", "ridge_probe"],
        "rank": ["AlphaReQ", "SampleSizeWarning", "alpha_req", "numerical_rank", "participation_ratio", "rankme"],
        "rankme_selector": ["RankMeReport", "RankMeSelector", "RankedRun"],
        "retrieval": ["hit_rate", "mean_average_precision", "mrr", "ndcg", "recall_at_k"],
        "segmentation": ["SegmentationScores", "segmentation_scores"],
        "selection": ["Selection", "Trial", "select"],
        "senses": ["SenseReport", "sense_report"],
        "separation": ["SeparationReport", "separation_report"],
        "spaces": ["Likeness", "SpaceComparison", "compare_spaces", "space_quality"],
        "temperature": ["TemperatureAdvisor", "TemperatureRun", "TemperatureTable"],
        "transfer": [
            "TransferScore",
            "angular_uniformity",
            "hopkins",
            "mutual_information",
            "transfer_score",
        ],
    },
)
