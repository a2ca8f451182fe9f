"""Published checkpoints of SiT, DiT and ReDi as run folders."""
