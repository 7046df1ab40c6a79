"""The page and what it needs, from this package and from the ``maplibre`` wheel: no build step, nothing from elsewhere."""

from __future__ import annotations

from importlib.metadata import files
from importlib.resources import files as resources
from pathlib import Path

from aiohttp import web

from serve.http import Body

_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_OWN = {"/": ("index.html", "text/html; charset=utf-8"), "/favicon.ico": ("icon.svg", "image/svg+xml")}
_MAPLIBRE = {
    "/assets/maplibre-gl.js": ("maplibre-gl.js", "text/javascript; charset=utf-8"),
    "/assets/maplibre-gl.css": ("maplibre-gl.css", "text/css; charset=utf-8"),
}


def maplibre_file(name: str) -> Path:
    """Where the ``maplibre`` wheel keeps one of MapLibre GL's files. The package itself is not imported: it would load a UI framework.

    Raises:
        FileNotFoundError: the wheel is missing or does not hold it.
    """
    for file in files("maplibre") or ():
        if file.name == name:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"the wheel maplibre holds no {name}")


def add_routes(app: web.Application) -> None:
    """Read every asset once, and serve it from memory."""
    found: dict[str, Body] = {}
    web_folder = resources("serve") / "web"
    for path, (name, content_type) in _OWN.items():
        found[path] = Body((web_folder / name).read_bytes(), content_type)
    for file in web_folder.iterdir():
        if content_type := _TYPES.get(Path(file.name).suffix, ""):
            found[f"/assets/{file.name}"] = Body(file.read_bytes(), content_type)
    for path, (name, content_type) in _MAPLIBRE.items():
        found[path] = Body(maplibre_file(name).read_bytes(), content_type)

    async def asset(request: web.Request) -> web.Response:
        return found[request.path].answer(request)

    for path in found:
        app.router.add_get(path, asset)
