"""A policy gradient on a small corridor world: each move reads the chosen action on the host."""


def build(torch, compile):
    nn = torch.nn
    torch.manual_seed(0)
    policy = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    model = compile.model(policy)

    def play():
        """One episode: what was seen, what was done, what it gave."""
        place, speed = 0.1, 0.0
        seen, done, gave = [], [], []
        for moment in range(12):
            state = torch.tensor([place, speed, moment / 12, 1.0])
            with torch.no_grad():
                chances = torch.softmax(model(state), -1)
            action = torch.multinomial(chances, 1).item()
            speed = 0.9 * speed + (0.1 if action else -0.1)
            place += speed
            seen.append(state)
            done.append(action)
            gave.append(1.0 - abs(place))
        return seen, done, gave

    @compile.step
    def update(states, actions, returns):
        logs = torch.log_softmax(model(states), -1)
        weights = (returns - returns.mean()) / (returns.std() + 1e-6)
        loss = -(logs.gather(1, actions[:, None])[:, 0] * weights).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def step():
        seen, done, gave = play()
        total, returns = 0.0, []
        for reward in reversed(gave):
            total = reward + 0.95 * total
            returns.insert(0, total)
        return update(torch.stack(seen), torch.tensor(done), torch.tensor(returns))

    return step
