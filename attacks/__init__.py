"""The red team: triggers, payloads, poisoned data and the victims that are made of it."""
