"""What a type checker must refuse: each marked line, under mypy and under pyright, and no other."""

from sqlalchemy import ForeignKey, String, select

from holdfast.model import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    age: Mapped[int | None]
    posts: Mapped[list["Post"]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    author: Mapped[User] = relationship(back_populates="posts")
    wrong: Mapped[int] = mapped_column(primary_key="yes")  # E:
    other: Mapped[int] = 3  # E:
    unknown: Mapped["Nobody"] = relationship()  # E:
    badly: Mapped[User] = relationship(back_populates=3)  # E:


user = User(name="x")
post = Post()

user.name = 3  # E:
user.nam  # E:
user.name = None  # E:
user.posts = post  # E:
user.posts.append(user)  # E:
post.author = None  # E:
post.author.posts.name  # E:
user.age + 1  # E:
number: int = user.name  # E:
name: str = User.name  # E:
User.nam  # E:
User.posts.anyone()  # E:
User.posts.any(3)  # E:
select(User).where("x")  # E:
select(User).filtered(User.name == "x")  # E:
