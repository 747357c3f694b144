"""One command as a Hydra application: composing, schemas, help, completion, errors."""
