"""The page: runs seen and steered in a browser, mounted in a program of yours or by itself.

It is made of `Client` alone, so it shows a log of any process, and costs the engine nothing.
"""

from importlib.util import find_spec as _find_spec

for _name in ("starlette", "jinja2"):
    if _find_spec(_name) is None:
        raise ImportError(f"oautom's page needs {_name}: pip install 'oautom[web]'")

from oautom.web.export import html_of  # noqa: E402 - see above
from oautom.web.site import Page, page  # noqa: E402 - as above

__all__ = ["Page", "html_of", "page"]
