"""Make Pydantic schemas of models, check what comes in, and show what is stored."""

import asyncio

from pydantic import ValidationError
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from unitwork import Base, Database, IntPKMixin, Repository, TimestampMixin
from unitwork.schemas import schema_for


class Book(Base, IntPKMixin, TimestampMixin):
    """A book."""

    __tablename__ = "books"
    title: Mapped[str] = mapped_column(String(40))
    pages: Mapped[int | None]


NewBook = schema_for(Book, purpose="create")
BookChange = schema_for(Book, purpose="update")
ShownBook = schema_for(Book, exclude={"created_at", "updated_at"})


async def main() -> None:
    """Take a book in, change it, and show it. `unitwork generate-schemas` writes the same as source."""
    async with Database("sqlite+aiosqlite:///books.db") as db:
        await db.create_all(Base)
        books = Repository[Book](db)
        try:
            NewBook.model_validate({"title": "x" * 41})
        except ValidationError as error:
            print(error.errors()[0]["msg"])

        new = NewBook.model_validate({"title": "Emma"})
        book = await books.create(**new.model_dump(exclude_unset=True))
        book = await books.update(book.id, BookChange.model_validate({"pages": 474}))
        print(ShownBook.model_validate(book).model_dump_json())


if __name__ == "__main__":
    asyncio.run(main())
