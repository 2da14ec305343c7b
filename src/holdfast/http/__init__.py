"""The ASGI face: resources, analytics, health, the event stream and the overview page."""

from holdfast.http.app import create_app

__all__ = ["create_app"]
