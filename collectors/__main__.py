"""``python -m collectors``: see `collectors.steer`."""

from __future__ import annotations

from collectors.steer import main

raise SystemExit(main())
