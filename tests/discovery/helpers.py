"""What these tests share."""

from __future__ import annotations

from tests.namespaces import Namespace

Machines = tuple[Namespace, Namespace, Namespace]
