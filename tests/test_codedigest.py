import pytest

from whysgd.study import codedigest


@pytest.fixture
def project(tmp_path, monkeypatch):
    package = tmp_path / "whysgd"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "top.py").write_text("from whysgd.below import f\n\ndef g():\n    return f()\n")
    (package / "below.py").write_text("def f():\n    return 1\n")
    (package / "apart.py").write_text("x = 1\n")
    monkeypatch.setattr(codedigest, "ROOT", tmp_path)
    return package


def digest(entry="whysgd.top"):
    codedigest._read.cache_clear()
    return codedigest.code_digest(entry)


def test_comments_docstrings_and_layout_do_not_count(project):
    before = digest()
    (project / "below.py").write_text('"""Doc."""\n\n\ndef f():\n    "Doc."\n    # why\n    return (1)\n')
    assert digest() == before


def test_code_counts_through_imports_also_local_ones(project):
    before = digest()
    (project / "below.py").write_text("def f():\n    return 2\n")
    after = digest()
    assert after != before
    (project / "top.py").write_text("def g():\n    import whysgd.below\n    return whysgd.below.f()\n")
    local = digest()
    (project / "below.py").write_text("def f():\n    return 3\n")
    assert digest() != local


def test_modules_that_are_not_imported_do_not_count(project):
    before = digest()
    (project / "apart.py").write_text("x = 2\n")
    assert digest() == before


def test_strings_that_are_no_docstrings_count(project):
    (project / "below.py").write_text("def f():\n    x = 'a'\n    return x\n")
    before = digest()
    (project / "below.py").write_text("def f():\n    x = 'b'\n    return x\n")
    assert digest() != before


def test_training_does_not_depend_on_reporting():
    files = set()
    waiting = [codedigest._locate("whysgd.training.loop")]
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting.extend(codedigest._read(path)[1])
    names = {file.relative_to(codedigest.ROOT).as_posix() for file in files}
    assert "whysgd/training/sgd.py" in names
    assert "whysgd/models/resnet.py" in names
    assert not any(name.startswith(("whysgd/reporting", "whysgd/papers", "whysgd/config")) for name in names)


def test_an_entry_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"whysgd\.nothing"):
        codedigest.code_digest("whysgd.nothing")
