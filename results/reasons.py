"""Why targets are missed, by what each is about: written by people who looked into it."""

REASONS: dict[str, str] = {}
