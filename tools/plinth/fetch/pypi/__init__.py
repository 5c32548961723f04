"""pypi"""
