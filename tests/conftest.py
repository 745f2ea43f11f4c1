"""Settings of all tests."""

from hypothesis import settings

# On a busy machine any example may take a hundred times as long as on an idle one.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
