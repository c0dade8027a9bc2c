"""Expressions and templates of workflow definitions: CEL over JSON, checked and bounded."""
