from unmask.runtime.code import PACKAGE, code_digest

BLEND, CODEC = "forgeries/blend", "video/codec"


def test_it_depends_on_the_source_of_each_module():
    assert code_digest(BLEND, CODEC) == code_digest(BLEND, CODEC)
    assert len({code_digest(BLEND), code_digest(CODEC), code_digest(BLEND, CODEC)}) == 3


def test_the_package_is_the_folder_that_holds_all_wings():
    assert (PACKAGE / "errors.py").is_file()
    assert (PACKAGE / "runtime/code.py").is_file()
