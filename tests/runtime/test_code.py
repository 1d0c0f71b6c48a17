from unmask.runtime.code import PACKAGE, code_digest

BLEND, DECODE = "forgeries/blend", "video/decode"


def test_it_depends_on_the_source_of_each_module():
    assert code_digest(BLEND, DECODE) == code_digest(BLEND, DECODE)
    assert len({code_digest(BLEND), code_digest(DECODE), code_digest(BLEND, DECODE)}) == 3


def test_the_package_is_the_folder_that_holds_all_wings():
    assert (PACKAGE / "errors.py").is_file()
    assert (PACKAGE / "runtime/code.py").is_file()
