"""The pictures that the project draws itself."""
