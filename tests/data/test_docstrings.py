from nolabel.data import load, modality


def test_the_standard_library_as_texts():
    table = load("docstrings")
    assert len(table) > 2000
    assert modality(table) == "text"
    names = dict(zip(table["name"], table["text"]))
    assert "ascending order" in names["sorted"]
    assert names["statistics.median"].startswith("Return the median")
    assert len(set(table["text"])) == len(table)
    assert not any("._" in name for name in names)
    assert load("docstrings", module="builtins")["module"][0] == "builtins"
