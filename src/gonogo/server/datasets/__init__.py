"""The pages of data sets, and uploading photographs."""
