"""The article's fully connected networks in Keras, as its readers run them. Not a part of Zeuxis: this file is run by
the interpreter of an environment of its own with `tensorflow-cpu`.

As a program it answers a benchmark: for each line `gan`, `vae` with a number of pictures on its input it trains on so
many and prints the seconds.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import keras
import numpy as np
from keras import layers

SIZE, LATENT = 784, 256


class Gan:
    """100-256-784 against 784-256-1 by `train_on_batch`, Adam 2e-4 with beta1 0.5, pictures `[N, 784]` in [-1, 1]."""

    def __init__(self, size: int, batch: int) -> None:
        self.batch, self.rng = batch, np.random.default_rng(0)
        self.ones, self.zeros = np.ones((batch, 1)), np.zeros((batch, 1))
        self.generator = keras.Sequential([
            keras.Input((100,)), layers.Dense(256), layers.LeakyReLU(negative_slope=0.2),
            layers.Dense(size, activation="tanh"),
        ])  # fmt: skip
        self.discriminator = keras.Sequential([
            keras.Input((size,)), layers.Dense(256), layers.LeakyReLU(negative_slope=0.2),
            layers.Dense(1, activation="sigmoid"),
        ])  # fmt: skip
        self.discriminator.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), "binary_crossentropy")
        # Its own step is traced with its weights before they are frozen inside the joined model; Keras 3 would else
        # train nothing. That step is taken on pictures that say nothing.
        self.discriminator.train_on_batch(np.zeros((batch, size), "float32"), self.ones)
        self.discriminator.trainable = False
        self.joined = keras.Sequential([keras.Input((100,)), self.generator, self.discriminator])
        self.joined.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), "binary_crossentropy")

    def noise(self, count: int) -> np.ndarray:
        """Standard normal, float32 `[count, 100]`."""
        return self.rng.standard_normal((count, 100)).astype("float32")

    def step(self, data: np.ndarray) -> None:
        """One update of each network."""
        real = data[self.rng.integers(0, len(data), self.batch)]
        self.discriminator.train_on_batch(real, self.ones)
        self.discriminator.train_on_batch(self.generator(self.noise(self.batch)).numpy(), self.zeros)
        self.joined.train_on_batch(self.noise(self.batch), self.ones)


def vae(size: int) -> tuple[Any, Any]:
    """784-256, 256 latents, 256-784 with cross-entropy alone, and its decoder: the code is the mean, nothing makes it
    normal. Trained by `fit` on pictures `[N, 784]` in [0, 1]."""
    picture = keras.Input((size,))
    mean = layers.Dense(LATENT)(layers.Dense(256, activation="relu")(picture))
    decoder = keras.Sequential([keras.Input((LATENT,)), layers.Dense(256, activation="relu"),
                                layers.Dense(size, activation="sigmoid")])  # fmt: skip
    model = keras.Model(picture, decoder(mean))
    model.compile("adam", "binary_crossentropy")
    return model, decoder


def main() -> None:
    batch = int(sys.argv[1])
    keras.utils.set_random_seed(0)
    data = np.random.default_rng(0).random((6400, SIZE), "float32")
    gan, (model, _) = Gan(SIZE, batch), vae(SIZE)
    print(keras.__version__, flush=True)
    for line in sys.stdin:
        name, count = line.split()
        started = time.perf_counter()
        if name == "gan":
            for _ in range(int(count) // batch):
                gan.step(data)
        else:
            model.fit(data[: int(count)], data[: int(count)], batch_size=batch, epochs=1, verbose=0)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
