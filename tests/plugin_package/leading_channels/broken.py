"""A method whose module cannot be imported."""

import no_such_package_at_all

from hdapbench.method import Method


class Broken(Method):
    """Never reached."""

    name = "leading-broken"
    package = no_such_package_at_all
