"""What a data set is like before it is built."""

import numpy as np
import pytest
from conftest import write_images

from whysgd.data.shape import Images, images_of
from whysgd.errors import UserError


def test_an_image_folder_is_looked_at(tmp_path):
    write_images(tmp_path, "ab", lambda *_: np.zeros((20, 20, 3)), 3, 2)
    own = {"source": "image_folder", "path": str(tmp_path), "train_images": 5, "test_images": None, "label": None}
    assert images_of({"datasets": {"mine": own}}, "mine") == Images(5, 4, 3, 20, 2)
    (tmp_path / "train/a/0000.png").write_text("no image")
    with pytest.raises(UserError, match=r"train/a/0000\.png: not a readable image"):
        images_of({"datasets": {"mine": own | {"train_images": 4}}}, "mine")
