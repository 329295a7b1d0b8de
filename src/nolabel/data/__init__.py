"""What comes in: any source as a table of typed columns, images decoded once, known public sets."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "dom": ["Page", "parse_html", "parse_pages", "visible_text"],
        "dom_labels": ["match_nodes"],
        "dom_subtrees": ["dom_subtrees"],
        "fingerprints": ["fingerprint"],
        "image_cache": ["ImageCache"],
        "images": ["open_images"],
        "known_sets": ["load"],
        "modalities": ["modality"],
        "poses": ["make_pose_views", "pair_table", "rotated_images"],
        "reading": ["read"],
        "sources": ["ColumnSource", "Skipped", "Source"],
        "stop_words": ["stop_words"],
        "tokenisers": ["train_wordpiece"],
        "tokens": ["TokenSource"],
        "videos": ["ClipSource", "VideoSource", "open_videos"],
        "urls": ["normalise_url", "registered_domain", "split_by_domain"],
        "vocabulary": ["Vocabulary"],
        "word_windows": ["WordLists", "WordWindows"],
        "words": ["NumberedTexts", "number_words", "read_words", "split_words"],
    },
)
