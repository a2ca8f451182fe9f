"""Published checkpoints of SiT, REPA, DiT and ReDi as run folders."""
