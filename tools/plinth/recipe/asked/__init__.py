"""What an image asks for beside its specification: requirement files, projects, others' locks."""
