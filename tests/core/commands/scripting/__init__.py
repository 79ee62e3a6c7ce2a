"""Scripts in the core: how they travel, and which of them a node keeps."""
