"""What a data set is like before it is built."""

import pytest

from whysgd.data.shape import Images, images_of
from whysgd.errors import UserError


def test_an_image_folder_is_looked_at(tmp_path):
    from PIL import Image

    for split, number in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (20, 20)).save(tmp_path / split / name / f"{i}.png")
    own = {"source": "image_folder", "path": str(tmp_path), "train_images": 5, "test_images": None, "label": None}
    assert images_of({"datasets": {"mine": own}}, "mine") == Images(5, 4, 3, 20, 2)
    (tmp_path / "train/a/0.png").write_text("no image")
    with pytest.raises(UserError, match=r"train/a/0\.png: not a readable image"):
        images_of({"datasets": {"mine": own | {"train_images": 4}}}, "mine")
