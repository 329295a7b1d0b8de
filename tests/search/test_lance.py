"""A package that is put off until somebody looks into it."""

import subprocess
import sys


def run(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_an_index_is_opened_without_the_client_of_remote_namespaces():
    code = """
import sys, numpy as np
import nolabel.search.store
package = sys.modules["lance_namespace_urllib3_client"]
made = "lance_namespace_urllib3_client.api.table_api"
before = made in sys.modules
print(before, package.TableApi.__name__, made in sys.modules, hasattr(package, "no_such_name"))
"""
    assert run(code) == "False TableApi True False"


def test_a_package_is_run_at_the_first_look_and_once(tmp_path):
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("print('made')\nvalue = 3\n")
    (folder / "part.py").write_text("other = 4\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from nolabel.search.lance import put_off
put_off("slow_package")
import slow_package.part
print(slow_package.part.other, end=" ")
from slow_package import value
print(value, slow_package.value, hasattr(slow_package, "nothing"))
put_off("slow_package")
put_off("no_such_package")
"""
    assert run(code).split() == ["4", "made", "3", "3", "False"]
