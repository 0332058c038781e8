"""Alembic's entry: runs the migrations on the engine that `Store.migrate` hands over."""

from typing import Any, Literal

from alembic import context

from imil_backend.store.tables import Base, UtcDateTime


def _render_item(kind: str, item: object, _: Any) -> str | Literal[False]:
    """Migrations stand by themselves: they name SQLAlchemy's type, not ours."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


with context.config.attributes["engine"].connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        render_item=_render_item,
    )
    with context.begin_transaction():
        context.run_migrations()
