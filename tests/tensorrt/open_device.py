"""Opens the GPU and says what came of it."""

from __future__ import annotations

from sdrt.backends.cuda import CudaDevice
from sdrt.errors import SdrtError

try:
    CudaDevice()
    print("opened")
except SdrtError as error:
    print(f"{type(error).__name__}: {error}")
