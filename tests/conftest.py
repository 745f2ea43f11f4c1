"""Settings of all tests."""

import os

from hypothesis import settings

# Who asks for what is not on this machine asks a port that nobody listens on, also in what tests start.
for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ[name] = os.environ[name.upper()] = "http://127.0.0.1:9"
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"

# On a busy machine any example may take a hundred times as long as on an idle one.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
