"""Reports, pages and pictures of what was trained and measured."""
