"""The models of the demo: packages, their files, classifiers, authors, and who needs whom."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table

from holdfast import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


package_classifiers = Table(
    "package_classifiers",
    Base.metadata,
    Column("package_id", ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True),
    Column("classifier_id", ForeignKey("classifiers.id", ondelete="CASCADE"), primary_key=True, index=True),
)
package_authors = Table(
    "package_authors",
    Base.metadata,
    Column("package_id", ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True),
    Column("author_id", ForeignKey("authors.id", ondelete="CASCADE"), primary_key=True, index=True),
)
package_needs = Table(
    "package_needs",
    Base.metadata,
    Column("package_id", ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True),
    Column("needed_id", ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True, index=True),
)


class Package(Base):
    """An installed distribution; ``needs`` holds the packages here that it cannot do without."""

    __tablename__ = "packages"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    version: Mapped[str] = mapped_column(String(120))
    summary: Mapped[str | None]
    license: Mapped[str | None] = mapped_column(index=True)
    requires_python: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    installed_at: Mapped[datetime]

    files: Mapped[list[File]] = relationship(back_populates="package", cascade="all, delete-orphan")
    requirements: Mapped[list[Requirement]] = relationship(
        back_populates="package", cascade="all, delete-orphan", foreign_keys="Requirement.package_id"
    )
    classifiers: Mapped[list[Classifier]] = relationship(
        secondary=package_classifiers, back_populates="packages", order_by="Classifier.name"
    )
    authors: Mapped[list[Author]] = relationship(secondary=package_authors, back_populates="packages")
    needs: Mapped[list[Package]] = relationship(
        secondary=package_needs,
        primaryjoin=lambda: Package.id == package_needs.c.package_id,
        secondaryjoin=lambda: Package.id == package_needs.c.needed_id,
        back_populates="needed_by",
        order_by="Package.name",
    )
    needed_by: Mapped[list[Package]] = relationship(
        secondary=package_needs,
        primaryjoin=lambda: Package.id == package_needs.c.needed_id,
        secondaryjoin=lambda: Package.id == package_needs.c.package_id,
        back_populates="needs",
        order_by="Package.name",
    )


class File(Base):
    """A file of a package; size and hash are None where the package does not record them."""

    __tablename__ = "files"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    package_id: Mapped[int] = mapped_column(ForeignKey("packages.id", ondelete="CASCADE"), index=True)
    package: Mapped[Package] = relationship(back_populates="files")


class Requirement(Base):
    """One line of what a package asks for; ``target`` is None where nothing here has that name."""

    __tablename__ = "requirements"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    text: Mapped[str]
    extra: Mapped[str | None]
    package_id: Mapped[int] = mapped_column(ForeignKey("packages.id", ondelete="CASCADE"), index=True)
    target_id: Mapped[int | None] = mapped_column(ForeignKey("packages.id", ondelete="SET NULL"), index=True)
    package: Mapped[Package] = relationship(back_populates="requirements", foreign_keys=[package_id])
    target: Mapped[Package | None] = relationship(foreign_keys=[target_id])


class Classifier(Base):
    __tablename__ = "classifiers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    packages: Mapped[list[Package]] = relationship(
        secondary=package_classifiers, back_populates="classifiers", order_by="Package.name"
    )


class Author(Base):
    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    packages: Mapped[list[Package]] = relationship(
        secondary=package_authors, back_populates="authors", order_by="Package.name"
    )
