"""Trains a small convolutional network on scikit-learn's handwritten digits.

An ordinary PyTorch script: run it with `python examples/digits_cnn.py` where PyTorch is installed, or with
`python -m jtorch examples/digits_cnn.py` where it is not. The losses are the same.
"""

import argparse
import json
import time

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class Digits(Dataset):
    """1,797 images of 8 x 8 pixels, with the digit each shows."""

    def __init__(self):
        digits = load_digits()
        self.images = (digits.images / 16.0).astype(np.float32)
        self.labels = digits.target

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index][None]  # one channel
        return image, int(self.labels[index])


class DigitNet(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width * 2 * 2, classes)

    def forward(self, x):
        x = self.pool(F.relu(self.norm1(self.conv1(x))))  # 8 x 8 -> 4 x 4
        x = self.pool(F.relu(self.norm2(self.conv2(x))))  # 4 x 4 -> 2 x 2
        return self.head(self.dropout(x.flatten(1)))


def train_epoch(model, loader, criterion, optimizer, scheduler, device, bar):
    """One pass over the training data. The loss of every step."""
    model.train()
    losses = []
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.4f}", lr=f"{scheduler.get_last_lr()[0]:.1e}")
        bar.update()
    return losses


@torch.no_grad()
def evaluate(model, loader, criterion, device):
    """Mean loss and accuracy over a loader."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        scores = model(images)
        loss += criterion(scores, labels).item() * len(labels)
        correct += (scores.argmax(dim=1) == labels).sum().item()
        count += len(labels)
    return loss / count, correct / count


@torch.no_grad()
def predict(model, dataset, count, device):
    """The first `count` images of a dataset, with what the model takes them for."""
    model.eval()
    images, labels = next(iter(DataLoader(dataset, batch_size=count)))
    chance, guess = model(images.to(device)).softmax(dim=1).max(dim=1)
    return images[:, 0].numpy(), labels.tolist(), guess.tolist(), chance.tolist()


def plot(path, step_losses, history, predictions):
    """Loss and accuracy curves beside a grid of predictions, as one PNG."""
    steps_per_epoch = len(step_losses) // len(history)
    ends = [(epoch + 1) * steps_per_epoch for epoch in range(len(history))]
    window = max(1, min(len(step_losses) // 20, steps_per_epoch))
    smooth = np.convolve(step_losses, np.ones(window) / window, mode="valid")

    figure = plt.figure(figsize=(13, 6.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    top, bottom = left.subplots(2, 1, sharex=True)
    top.plot(range(1, len(step_losses) + 1), step_losses, color="#9ecae1", linewidth=0.8, label="train, each step")
    top.plot(range(window, len(step_losses) + 1), smooth, color="#08519c", linewidth=1.8, label="train, moving mean")
    top.plot(ends, [h["test_loss"] for h in history], "o-", color="#e6550d", markersize=4, label="test")
    top.set(yscale="log", ylabel="cross-entropy loss", title="Loss")
    bottom.plot(ends, [100 * h["train_accuracy"] for h in history], "o-", color="#08519c", markersize=4, label="train")
    bottom.plot(ends, [100 * h["test_accuracy"] for h in history], "o-", color="#e6550d", markersize=4, label="test")
    bottom.set(
        xlabel="step", ylabel="accuracy (%)", title=f"Accuracy: {100 * history[-1]['test_accuracy']:.2f} % on test"
    )
    for axes in (top, bottom):
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)

    right.suptitle("Predictions on test images (wrong ones in red)")
    grid = right.subplots(5, 6).ravel()
    for axes, image, label, guess, chance in zip(grid, *predictions):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        color = "#2ca02c" if guess == label else "#d62728"
        note = f"{guess}  ({chance:.0%})" if guess == label else f"{guess}, is {label}"
        axes.set_title(note, color=color, fontsize=10)
        axes.axis("off")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01, help="highest learning rate of the schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="digits.png", help="where the picture goes")
    parser.add_argument("--losses", metavar="FILE", help="write the loss of every step there, as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"torch {torch.__version__} on {device}")

    train_set, test_set = random_split(Digits(), [0.8, 0.2])
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    train_eval_loader = DataLoader(train_set, batch_size=256)
    test_loader = DataLoader(test_set, batch_size=256)

    model = DigitNet().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )
    print(model)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(train_set)} training images")

    began = time.perf_counter()
    step_losses, history = [], []
    with tqdm(total=args.epochs * len(train_loader), disable=args.no_progress, unit="step") as bar:
        for epoch in range(args.epochs):
            bar.set_description(f"epoch {epoch + 1}/{args.epochs}")
            losses = train_epoch(model, train_loader, criterion, optimizer, scheduler, device, bar)
            step_losses += losses
            _, train_accuracy = evaluate(model, train_eval_loader, criterion, device)
            test_loss, test_accuracy = evaluate(model, test_loader, criterion, device)
            history.append(
                {
                    "train_loss": sum(losses) / len(losses),
                    "train_accuracy": train_accuracy,
                    "test_loss": test_loss,
                    "test_accuracy": test_accuracy,
                }
            )
            bar.write(
                f"epoch {epoch + 1:2d}  train loss {history[-1]['train_loss']:.4f}  "
                f"test loss {test_loss:.4f}  test accuracy {test_accuracy:.2%}"
            )
    print(f"trained in {time.perf_counter() - began:.1f} s; test accuracy {history[-1]['test_accuracy']:.2%}")

    if args.losses:
        with open(args.losses, "w") as file:
            json.dump({"steps": step_losses, "epochs": history}, file)
    plot(args.out, step_losses, history, predict(model, test_set, 30, device))
    print(f"curves and predictions: {args.out}")


if __name__ == "__main__":
    main()
