# SPDX-License-Identifier: Apache-2.0
"""What colcon, rosdep and pip are told agrees with the code and with itself."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import armor_ros

ROOT = Path(__file__).parents[2]
# rosdep's names of packages that are imported under another name
ROSDEP_KEYS = {
    'ament_index_python': 'launch_ros',  # comes with it
    'cv2': 'python3-opencv',
    'msgpack': 'python3-msgpack',
    'numpy': 'python3-numpy',
    'typer': 'python3-typer',
    'websockets': 'python3-websockets',
    'yaml': 'python3-yaml',
}
# Used only where it is installed; and the standard library of Python 3.14.
OPTIONAL = {'cv_bridge', 'compression'}
# pip's names of packages that are imported under another name
PIP_NAMES = {
    'backports': 'backports-zstd',
    'cv2': 'opencv-python-headless',
    'PIL': 'pillow',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml',
}


def package_xml(folder: Path) -> ET.Element:
    return ET.parse(folder / 'package.xml').getroot()


def dependencies(folder: Path) -> set[str]:
    return {
        (element.text or '').strip()
        for element in package_xml(folder)
        if element.tag.endswith('depend')
    }


def imports_of(file: Path, *, at_import: bool = False) -> set[str]:
    """Return the modules that a file imports; ``at_import``: only those outside of functions."""
    tree = ast.parse(file.read_text(encoding='utf-8'))
    names: set[str] = set()
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            # `from package import module` imports a module too
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
    return names


def source_of(module: str) -> Path | None:
    """Return the file of one of our modules, or None."""
    path = ROOT.joinpath(*module.split('.'))
    candidates = (path.with_suffix('.py'), path / '__init__.py')
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def robot_process() -> set[Path]:
    """Return the files that ``ros2 run armor_ros monitor`` can import."""
    found: set[Path] = set()
    waiting = [ROOT / 'armor_ros' / 'node' / 'main.py']
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        ours = (name for name in imports_of(file) if name.startswith('armor_ros'))
        waiting += [source for source in map(source_of, ours) if source is not None]
    return found


def foreign(modules: set[str]) -> set[str]:
    """Return the top-level names that are neither ours nor the standard library's."""
    names = {module.partition('.')[0] for module in modules}
    return names - set(sys.stdlib_module_names) - {'armor_ros'}


def normalized(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def requirement_names(lines: list[str]) -> list[str]:
    matches = [re.match(r'[A-Za-z0-9._-]+', line) for line in lines]
    return [normalized(match.group()) for match in matches if match]


def setup_call() -> dict[str, object]:
    """Return the keyword arguments that setup.py passes to setup()."""
    import setuptools

    captured: dict[str, object] = {}
    original = setuptools.setup
    setuptools.setup = captured.update
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            exec(compile((ROOT / 'setup.py').read_text(), 'setup.py', 'exec'), {})
    finally:
        setuptools.setup = original
    # captured.update(name=..., ...) was called with setup's keywords
    return captured


def requirements() -> list[str]:
    """Return the names of all that setup.py requires, the extras included."""
    arguments = setup_call()
    required, extras = arguments['install_requires'], arguments['extras_require']
    assert isinstance(required, list)
    assert isinstance(extras, dict)
    return requirement_names([*required, *(name for extra in extras.values() for name in extra)])


def pins() -> dict[str, str]:
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    return {
        normalized(name): version
        for name, _, version in (line.partition('==') for line in lines)
        if version
    }


def test_versions_agree() -> None:
    message_project = (ROOT / 'armor_msgs' / 'pyproject.toml').read_text()
    match = re.search(r'^version = "(.+)"$', message_project, re.MULTILINE)
    versions = {
        'armor_ros/__init__.py': armor_ros.__version__,
        'package.xml': package_xml(ROOT).findtext('version'),
        'setup.py': setup_call()['version'],
        'armor_msgs/package.xml': package_xml(ROOT / 'armor_msgs').findtext('version'),
        'armor_msgs/pyproject.toml': match.group(1) if match else None,
    }
    assert len(set(versions.values())) == 1, versions


def test_package_xml_declares_what_the_robot_process_imports() -> None:
    files = robot_process()
    assert ROOT / 'armor_ros' / 'node' / 'monitor.py' in files
    modules: set[str] = set()
    for file in (ROOT / 'armor_ros' / 'cli').glob('*.py'):
        modules |= imports_of(file, at_import=True)
    for file in (*files, *ROOT.glob('launch/*.py')):
        modules |= imports_of(file)
    needed = {ROSDEP_KEYS.get(name, name) for name in foreign(modules) - OPTIONAL}
    assert {'rclpy', 'python3-numpy'} <= needed
    assert sorted(needed - dependencies(ROOT)) == []


def test_setup_declares_what_all_code_imports() -> None:
    modules: set[str] = set()
    for file in (ROOT / 'armor_ros').rglob('*.py'):
        modules |= imports_of(file)
    from_ros = {normalized(name) for name in dependencies(ROOT)} | {'ament-index-python'}
    names = {PIP_NAMES.get(name, normalized(name)) for name in foreign(modules) - OPTIONAL}
    assert sorted(names - set(requirements()) - from_ros) == []


def test_package_xml_names_no_deep_learning_package() -> None:
    declared = ' '.join(dependencies(ROOT))
    assert not re.search('torch|transformers|bitsandbytes|mujoco', declared)


def test_every_interface_is_built() -> None:
    files = {
        f'{path.parent.name}/{path.name}'
        for kind in ('msg', 'srv', 'action')
        for path in (ROOT / 'armor_msgs' / kind).iterdir()
    }
    listed = re.findall(
        r'"((?:msg|srv|action)/.+)"', (ROOT / 'armor_msgs' / 'CMakeLists.txt').read_text()
    )
    assert sorted(listed) == sorted(files)


def test_pip_never_installs_ros_beside_an_installed_ros() -> None:
    names = requirements()
    assert [name for name in names if name.startswith('ros-') or name == 'rclpy'] == []


def test_colcon_test_finds_the_tests() -> None:
    extras = setup_call()['extras_require']
    assert isinstance(extras, dict)
    # without this extra it runs no tests, and says nothing
    assert 'pytest' in extras['test']


def test_every_requirement_is_pinned() -> None:
    wheels = (ROOT / 'requirements' / 'ros-kilted.txt').read_text().splitlines()
    names = [*requirements(), *requirement_names(wheels)]
    assert sorted(set(names) - set(pins())) == []
    assert 'torch' in names
    # torchvision's builds fail beside a CPU build of torch, and then break transformers
    assert 'torchvision' not in pins()


def test_installed_files_are_found() -> None:
    arguments = setup_call()
    data_files = arguments['data_files']
    package_data = arguments['package_data']
    assert isinstance(data_files, list)
    assert isinstance(package_data, dict)
    installed = {f'{folder}/{Path(file).name}' for folder, files in data_files for file in files}
    assert {
        'share/ament_index/resource_index/packages/armor_ros',
        'share/armor_ros/package.xml',
        'share/armor_ros/launch/monitor.launch.py',
        'share/armor_ros/launch/replay.launch.py',
        'share/armor_ros/config/monitor.yaml',
        'share/armor_ros/config/fastdds_camera.xml',
    } <= installed
    assert [name for name in package_data['armor_ros'] if 'simulation' in name]


def test_the_oldest_transformers_is_the_one_that_is_tested() -> None:
    lines = (ROOT / 'requirements' / 'transformers-oldest.txt').read_text().splitlines()
    tested = dict(line.split('==') for line in lines if line and line[0] != '#')
    extras = setup_call()['extras_require']
    assert isinstance(extras, dict)
    oldest = next(each for each in extras['inference'] if each.startswith('transformers'))
    assert f'{oldest}.0' == f'transformers>={tested["transformers"]}'
    assert pins()['transformers'] != tested['transformers']
    assert 'make test-oldest' in (ROOT / '.ci' / 'run').read_text()
