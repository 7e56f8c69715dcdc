"""A walk through the basics, each step checked: arrays, indexing, shapes, products, gradients, a module, data.

An ordinary PyTorch script, for `python examples/tutorial.py` or `python -m jtorch examples/tutorial.py`.
"""

import numpy as np

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


def raises(kind, words, function, *args):
    """Asserts that a call raises, and that its message says these words."""
    try:
        function(*args)
    except kind as error:
        assert words in str(error), f"expected {words!r} in {error}"
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


def numpy_interop():
    array = np.array([1, 2, 3, 4])
    tensor = torch.from_numpy(array)  # takes over the array's type
    assert tensor.dtype == torch.int64 and tensor.tolist() == [1, 2, 3, 4]
    floats = torch.Tensor([1, 2, 3, 4])  # the class makes float32, whatever it is given
    assert floats.dtype == torch.float32
    assert torch.tensor([1, 2]).dtype == torch.int64 and torch.tensor([1.0]).dtype == torch.float32

    back = tensor.numpy()
    assert isinstance(back, np.ndarray) and np.array_equal(back, array)
    assert np.mean(tensor.numpy()) == tensor.double().mean().item() == 2.5
    copied = torch.tensor(array)  # always memory of its own
    array[1] = 20
    assert copied[1].item() == 2
    raises(TypeError, "expected np.ndarray", torch.from_numpy, [[1, 2], [3, 4]])


def indexing():
    data = np.arange(1, 10).reshape(3, 3)
    tensor = torch.from_numpy(data)
    assert tensor[:, 0].tolist() == data[:, 0].tolist() == [1, 4, 7]
    assert tensor[1, -1].item() == 6
    assert tensor[::2, 1:].tolist() == [[2, 3], [8, 9]]
    assert tensor[tensor > 6].tolist() == [7, 8, 9]
    assert tensor[[2, 0]].tolist() == [[7, 8, 9], [1, 2, 3]]
    assert tensor[:, None].shape == (3, 1, 3)
    raises(IndexError, "out of bounds", tensor.__getitem__, 3)

    row = tensor[1]  # a view: writing to it writes to the whole
    row[0] = 40
    assert tensor[1, 0].item() == 40
    tensor[:, 2] = 0
    assert tensor.sum().item() == 1 + 2 + 40 + 5 + 7 + 8


def devices():
    tensor = torch.zeros(2)
    assert tensor.device == torch.device("cpu") and str(tensor.device) == "cpu"
    if torch.cuda.is_available():
        moved = tensor.to("cuda")
        assert moved.device.type == "cuda" and moved.device.index == 0
        assert moved.cpu().device.type == "cpu"
    else:
        assert torch.cuda.device_count() == 0


def shapes():
    torch.manual_seed(0)
    tensor = torch.rand(size=(2, 3, 2))
    assert tensor.view([-1, 6]).shape == tensor.reshape([-1, 6]).shape == (2, 6)
    assert torch.equal(tensor.view(-1, 6), tensor.reshape(-1, 6))

    base = torch.zeros(3, 2)
    viewed, reshaped = base.view(6), base.reshape(6)
    base.fill_(1)
    assert viewed.tolist() == [1] * 6  # the same memory
    assert reshaped.tolist() == [1] * 6  # and here too: reshape copies only where it has to
    assert viewed.data_ptr() == base.data_ptr()

    turned = base.t()  # a view whose elements do not lie in order
    raises(RuntimeError, "view size is not compatible", turned.view, 6)
    copied = turned.reshape(6)
    base.fill_(2)
    assert copied.tolist() == [1] * 6 and turned[0].tolist() == [2, 2, 2]

    assert torch.rand(2, 1, 2).squeeze().shape == (2, 2)
    assert torch.rand(2, 1, 2).squeeze(0).shape == (2, 1, 2)
    square = torch.rand(2, 2)
    assert [tuple(square.unsqueeze(d).shape) for d in range(3)] == [(1, 2, 2), (2, 1, 2), (2, 2, 1)]
    square.unsqueeze(0)[0, 0, 0] = 5  # squeeze and unsqueeze share memory as well
    assert square[0, 0].item() == 5
    raises(RuntimeError, "invalid for input of size", square.view, 3)


def products():
    left = torch.FloatTensor(np.arange(10).reshape(2, 5))
    right = torch.FloatTensor(np.arange(10).reshape(5, 2))
    product = [[60.0, 70.0], [160.0, 195.0]]
    assert left.mm(right).tolist() == left.matmul(right).tolist() == (left @ right).tolist() == product
    raises(RuntimeError, "1D tensors expected", left.dot, right)
    raises(RuntimeError, "mat1 and mat2 shapes cannot be multiplied", left.mm, left)

    a, b = torch.arange(3.0), torch.tensor([1.0, 10.0, 100.0])
    assert a.dot(b).item() == 210
    raises(RuntimeError, "must be a matrix", a.mm, b)

    batches = torch.arange(12.0).reshape(2, 2, 3)  # matmul goes over batches and broadcasts, mm does neither
    assert batches.matmul(torch.ones(3)).tolist() == [[3, 12], [21, 30]]
    raises(RuntimeError, "must be a matrix", batches.mm, torch.ones(3, 1))
    assert (a + torch.ones(2, 1)).shape == (2, 3)
    raises(RuntimeError, "must match the size of tensor", lambda: a + torch.ones(2))


def gradients():
    a = torch.tensor([2.0, 3.0], requires_grad=True)
    b = torch.tensor([6.0, 4.0], requires_grad=True)
    q = 3 * a**3 - b**2
    q.backward(gradient=torch.tensor([1.0, 1.0]))
    assert a.grad.tolist() == (9 * a**2).tolist() == [36, 81]  # dQ/da = 9 a^2
    assert b.grad.tolist() == (-2 * b).tolist() == [-12, -8]  # dQ/db = -2 b

    (a * b).sum().backward()  # a second backward adds to what is there
    assert a.grad.tolist() == [36 + 6, 81 + 4]
    a.grad.zero_()
    assert a.grad.tolist() == [0, 0]

    vector = torch.ones(2, requires_grad=True) * 2
    raises(RuntimeError, "grad can be implicitly created only for scalar outputs", vector.backward)
    with torch.no_grad():
        assert not (a * 2).requires_grad


class MyLinear(nn.Module):
    """A linear layer made by hand."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(in_features, out_features))
        self.bias = nn.Parameter(torch.randn(out_features))

    def forward(self, x: Tensor):
        return x @ self.weights + self.bias


def hand_made_module():
    torch.manual_seed(1)
    layer = MyLinear(3, 2)
    assert [name for name, _ in layer.named_parameters()] == ["weights", "bias"]
    assert sum(p.numel() for p in layer.parameters()) == 3 * 2 + 2
    out = layer(torch.zeros(4, 3))
    assert out.shape == (4, 2) and torch.equal(out[0], layer.bias)
    builtin = nn.Linear(3, 2)
    with torch.no_grad():
        builtin.weight.copy_(layer.weights.T)
        builtin.bias.copy_(layer.bias)
    x = torch.randn(5, 3)
    assert torch.allclose(layer(x), builtin(x), atol=1e-6)


def training_loop():
    """Fits y = 2 x1 - x2 + 0.5; the loss of every step."""
    torch.manual_seed(2)
    inputs = torch.randn(64, 2)
    targets = inputs @ torch.tensor([[2.0], [-1.0]]) + 0.5
    model = MyLinear(2, 1)
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()  # or the gradients of the last step would stay in
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-6 < losses[0]
    assert torch.allclose(model.weights, torch.tensor([[2.0], [-1.0]]), atol=1e-3)
    assert torch.allclose(model.bias, torch.tensor([0.5]), atol=1e-3)
    return losses


class Reviews(Dataset):
    """Words and what they express: samples may be dicts of strings."""

    def __init__(self, text, labels):
        self.text = text
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"Text": self.text[index], "Class": self.labels[index]}


def data_loading():
    text = ["Happy", "Amazing", "Sad", "Unhappy", "Glum"]
    labels = ["Positive", "Positive", "Negative", "Negative", "Negative"]
    dataset = Reviews(text, labels)
    assert dataset[2] == {"Text": "Sad", "Class": "Negative"}

    in_order = list(DataLoader(dataset, batch_size=2))
    assert in_order[0] == {"Text": ["Happy", "Amazing"], "Class": ["Positive", "Positive"]}
    assert [len(batch["Text"]) for batch in in_order] == [2, 2, 1]  # the last is short
    assert len(list(DataLoader(dataset, batch_size=2, drop_last=True))) == 2

    torch.manual_seed(3)
    loader = DataLoader(dataset, batch_size=2, shuffle=True)
    assert len(loader) == 3
    epochs = [[word for batch in loader for word in batch["Text"]] for _ in range(3)]
    assert all(sorted(words) == sorted(text) for words in epochs)
    assert not epochs[0] == epochs[1] == epochs[2]
    torch.manual_seed(3)
    assert [word for batch in loader for word in batch["Text"]] == epochs[0]  # the seed decides
    for batch in loader:
        assert all(labels[text.index(word)] == kind for word, kind in zip(batch["Text"], batch["Class"]))
    return epochs


def main():
    for step in (numpy_interop, indexing, devices, shapes, products, gradients, hand_made_module):
        step()
        print(f"{step.__name__}: as expected")
    losses = training_loop()
    print("training_loop: losses", " ".join(f"{loss:.4f}" for loss in losses[:10]))
    for epoch in data_loading():
        print("data_loading: epoch", *epoch)


if __name__ == "__main__":
    main()
