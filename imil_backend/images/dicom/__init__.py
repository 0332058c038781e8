"""DICOM files as a viewer shows them."""
